-- The first script on every new connection: after it, records of another epoch than the answered one are dead.
ensure()
return { text(M.e), text(M.s), text(millis()) }
