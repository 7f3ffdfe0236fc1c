-- The short way of a write, for what is asked most: the event of one key, announced on the hint channel alone.
--
-- The caller knows the epoch, and one command finds out whether it is right: the log refuses ids below its last one,
-- and a caller that is ahead gets a sequence that it has seen already. What goes wrong leaves an entry at most, which
-- was not published and which the new epoch deletes; then the long way, which stands behind this, finds out why.
-- The incarnation is not looked at: docs/decisions/0008 says why that may wait for the next sync.
--
-- FAST whether to try · RECORD to be stored in KEYS 3 for ARGV 8 ms, the lease in KEYS 4 removed (a hold is not)
-- Leaves APPENDED (the sequence, if nothing is left but to trim the log) and AHEAD (the caller has seen more than is there).
local APPENDED, AHEAD
if FAST then
  local id = redis.pcall('XADD', KEYS[2], 'NOMKSTREAM', ARGV[3] .. '-*', 'd', ARGV[5])
  local s = type(id) == 'string' and tonumber(id:sub(#ARGV[3] + 2))
  if s and s > tonumber(ARGV[4]) then
    if RECORD then
      redis.call('SET', KEYS[3], RECORD:sub(1, 4) .. struct.pack('>I8I8', ARGV[3], s) .. RECORD:sub(21), 'PX', ARGV[8])
      local holder = redis.call('GET', KEYS[4])
      if holder and holder ~= 'H' then redis.call('DEL', KEYS[4]) end
    end
    redis.call(PUBLISH, ARGV[1], struct.pack('>I4I8I8', ARGV[2], ARGV[3], s) .. (HINT or ARGV[5]))
    if s % TRIM_EVERY ~= 0 then return id end
    APPENDED = s
  else
    AHEAD = s
  end
end
