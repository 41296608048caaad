"""Operating a site: health, metrics, request ids, logs, dumps, recycling, status.

`middleware` is what a request passes through, outermost in the chain;
`housekeeping` is what a worker does beside requests; `status` is the command
for a terminal. They meet in files under `runtime_dir` (`registry`), so that
what one worker counts, any worker and any terminal can tell.

gunicorn's arbiter imports `logs` and `crashes` before any worker is patched.
So this file imports nothing but the middleware, which imports the standard
library alone.
"""

from nti.appserver.ops.middleware import OpsMiddleware
from nti.appserver.request_id import current_request_id

__all__ = ["OpsMiddleware", "current_request_id"]
