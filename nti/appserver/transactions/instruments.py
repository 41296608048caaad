"""What units of work count and measure, by name.

nti_transactions_attempts_total{outcome}
    Attempts that ended, `committed`, `aborted` (vetoed, doomed or free of side
    effects) or `failed` (an exception left them).
nti_transactions_conflicts_total{class}
    Transient errors, by the class of the exception.
nti_transactions_commit_seconds
    How long two-phase commits took, of units of work that had written.
nti_transactions_unavailable_total
    Units of work that conflicted until their attempts or their deadline ended,
    or whose body could not be replayed.
nti_transactions_refused_reads_total
    GET and HEAD requests that wrote, and whose writes were discarded.
nti_transactions_leases
    Database connections that are leased now.
nti_transactions_lease_wait_seconds
    How long units of work waited for a connection when none was free.
nti_transactions_turn_wait_seconds
    How long units of work that had conflicted waited for their turn at the object.
nti_transactions_leases_lost_total
    Leases that were not given back by their unit of work.
nti_transactions_foreign_uses_total{kind}
    Uses of persistent objects outside of their unit of work, `read` or `write`.
nti_transactions_kept_objects_total
    Persistent objects kept past their unit of work; in debug mode alone.
nti_transactions_effects_total{outcome}
    Effects of commits and aborts, `done` or `failed`.

Nothing here waits or switches.
"""

from nti.appserver.metrics import Counter, Gauge, Histogram

ATTEMPTS = Counter(
    "nti_transactions_attempts_total", "Attempts at units of work that ended.", ("outcome",)
)
COMMITTED = ATTEMPTS.labels("committed")
ABORTED = ATTEMPTS.labels("aborted")
FAILED = ATTEMPTS.labels("failed")
CONFLICTS = Counter(
    "nti_transactions_conflicts_total", "Transient errors of units of work.", ("class",)
)
COMMIT_SECONDS = Histogram("nti_transactions_commit_seconds", "Time that two-phase commits took.")
UNAVAILABLE = Counter(
    "nti_transactions_unavailable_total", "Units of work that conflicted to the last."
)
REFUSED_READS = Counter(
    "nti_transactions_refused_reads_total", "GET and HEAD requests whose writes were discarded."
)
LEASES = Gauge("nti_transactions_leases", "Database connections that are leased now.")
LEASE_WAIT_SECONDS = Histogram(
    "nti_transactions_lease_wait_seconds", "Time that units of work waited for a connection."
)
TURN_WAIT_SECONDS = Histogram(
    "nti_transactions_turn_wait_seconds", "Time that units of work waited for a turn at an object."
)
LEASES_LOST = Counter(
    "nti_transactions_leases_lost_total", "Leases that their unit of work did not give back."
)
FOREIGN_USES = Counter(
    "nti_transactions_foreign_uses_total",
    "Uses of persistent objects outside of their unit of work.",
    ("kind",),
)
KEPT_OBJECTS = Counter(
    "nti_transactions_kept_objects_total", "Objects kept past their unit of work (debug mode)."
)
EFFECTS = Counter("nti_transactions_effects_total", "Effects of commits and aborts.", ("outcome",))
EFFECTS_DONE = EFFECTS.labels("done")
EFFECTS_FAILED = EFFECTS.labels("failed")
