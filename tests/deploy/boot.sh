#!/bin/sh
# A machine of its own for systemd, as process 1 of new namespaces: boot.sh FOLDER
#
# Runs in a control group of its own. What systemd would read or write of the real machine is
# covered; FOLDER is /srv/site inside. FOLDER/units holds every unit there is.
set -e
folder=$1
mount --make-rprivate /
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /srv
mkdir /srv/site
mount --bind "$folder" /srv/site
for place in /run /var/lib /etc/systemd /usr/lib/systemd/system /usr/lib/systemd/system-generators
do
    mount -t tmpfs tmpfs "$place"
done
mkdir -p /run/systemd /run/lock /etc/systemd/system
cp /srv/site/units/* /etc/systemd/system/
exec env -i PATH="$PATH" container=other \
    /usr/lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no
