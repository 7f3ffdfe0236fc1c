-- Like put, but only if the version is above that of the stored record and above the floors that invalidations left.
-- Floors outlive epochs, for versions are of the origin, and so does what a record of a dead epoch says of its version: a
-- put that began before the epoch and comes late is not newer for that.
-- KEYS 3 record · 4 lease · 5 stamp of the resource · 6 floor of the key · ARGV 7 record · 8 ttl ms · 9 10 version
local record = ARGV[7]
local version = { hi = tonumber(ARGV[9]), lo = tonumber(ARGV[10]) }
local own = header(record)
if not own then return redis.error_reply('RECORD the bytes to put have no record header') end
if own.hi ~= version.hi or own.lo ~= version.lo then
  return redis.error_reply('RECORD the bytes to put carry another version than the call')
end
ensure()
local stored = header(call('GETRANGE', KEYS[3], 0, 27))
if stored and not above(version, stored) then return false end
for i = 5, 6 do
  local floor = parse(call('GET', KEYS[i]))
  if floor and (floor.hi > 0 or floor.lo > 0) and not above(version, floor) then return false end
end
return publish(store(record, ARGV[8]))
