-- Stamps a resource, or raises the floor of a key, where a moving slot has torn the partition: then one key at a time is
-- all that can be done in one step. A resource is closed first (a sequence above all), then the event is appended, then
-- the stamp gets the position of the event, unless somebody else has stamped meanwhile.
-- KEYS 1 stamp · ARGV 1 epoch · 2 sequence · 3 4 floor of versions · 5 keep ms · 6 the sequence to be replaced, or ''
local old = redis.call('GET', KEYS[1])
local e, s, hi, lo = (old or ''):match('^(%d+):(%d+):(%d+):(%d+)$')
if ARGV[6] ~= '' and s ~= ARGV[6] then return 0 end
local new_hi, new_lo = tonumber(ARGV[3]), tonumber(ARGV[4])
if e then
  local old_hi, old_lo = tonumber(hi), tonumber(lo)
  if old_hi > new_hi or (old_hi == new_hi and old_lo > new_lo) then new_hi, new_lo = old_hi, old_lo end
end
local life = math.max(tonumber(ARGV[5]), redis.call('PTTL', KEYS[1]))
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2] .. ':' .. new_hi .. ':' .. new_lo, 'PX', life)
return 1
