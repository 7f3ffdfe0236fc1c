-- Like put, but only if the version is above that of the stored record and above the floors that invalidations left.
-- Floors outlive epochs, for versions are of the origin; the record of a dead epoch says nothing.
-- KEYS 3 record · 4 lease · 5 stamp of the resource · 6 floor of the key · ARGV 11 record · 12 ttl ms · 13 14 version
local record = ARGV[11]
local version = { hi = tonumber(ARGV[13]), lo = tonumber(ARGV[14]) }
local own = header(record)
if not own then return redis.error_reply('RECORD the bytes to put have no record header') end
if own.hi ~= version.hi or own.lo ~= version.lo then
  return redis.error_reply('RECORD the bytes to put carry another version than the call')
end
ensure()
local stored = header(redis.call('GETRANGE', KEYS[3], 0, 27))
if stored and stored.e == M.e and not above(version, stored) then return false end
for i = 5, 6 do
  local floor = parse(redis.call('GET', KEYS[i]))
  if floor and (floor.hi > 0 or floor.lo > 0) and not above(version, floor) then return false end
end
redis.call('SET', KEYS[3], record:sub(1, 4) .. struct.pack('>I8I8', M.e, M.s + 1) .. record:sub(21), 'PX', ARGV[12])
redis.call('DEL', KEYS[4])
return append()
