-- Like put, but only if the version is above that of the stored record and above the floors that invalidations left.
-- Floors outlive epochs, for versions are of the origin, and so does what a record of a dead epoch says of its version: a
-- put that began before the epoch and comes late is not newer for that.
-- KEYS 3 record · 4 lease · 5 stamp of the resource · 6 floor of the key · ARGV 7 record · 8 ttl ms · 9 10 version
-- where there is any: 11 kind of cargo or '' · 12 the cargo, or '' for the record itself
--                     13 14 position of the record in whose place alone it is stored · 15.. groups not stamped since
local record = ARGV[7]
local version = { hi = tonumber(ARGV[9]), lo = tonumber(ARGV[10]) }
local own = header(record)
if not own then return redis.error_reply('RECORD the bytes to put have no record header') end
if own.hi ~= version.hi or own.lo ~= version.lo then
  return redis.error_reply('RECORD the bytes to put carry another version than the call')
end
ensure()
local stored = header(call('GETRANGE', KEYS[3], '0', '27'))
if stored and not above(version, stored) then return false end
for i = 5, 6 do
  local floor = parse(call('GET', KEYS[i]))
  if floor and (floor.hi > 0 or floor.lo > 0) and not above(version, floor) then return false end
end
if ARGV[13] then
  local e, seq = tonumber(ARGV[13]), tonumber(ARGV[14])
  if not stored or e ~= E or stored.e ~= E or stored.s ~= seq then return false end
  if dead(stored, E, parse(call('GET', KEYS[5]))) then return false end
  for i = 15, #ARGV do
    local last = (call('HGET', META, 'g:' .. ARGV[i]) or ''):match('^%d+')
    if last and tonumber(last) > seq then return false end
  end
end
if ARGV[11] and ARGV[11] ~= '' then
  local cargo = ARGV[12] ~= '' and ARGV[12] or record
  HINT = '\237\1' .. ARGV[11] .. struct.pack('>I4', #ARGV[5]) .. ARGV[5] .. cargo
end
return publish(store(record, ARGV[8]))
