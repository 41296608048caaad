-- A JSON document of 10 kB, posted.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"text": "' .. string.rep("x", 10228) .. '"}'
