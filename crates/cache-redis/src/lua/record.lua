-- Reading what lies in front of a record, and stamps.

-- The fixed header of a record: 'EC', version, flags, epoch u64, sequence u64, origin version u64 (as two halves,
-- since a double does not hold it). Nothing if the bytes are no record.
local function header(bytes)
  if not bytes or #bytes < 28 or bytes:sub(1, 2) ~= 'EC' then return nil end
  local e, s, hi, lo = struct.unpack('>I8I8I4I4', bytes, 5)
  return { e = e, s = s, hi = hi, lo = lo }
end

-- A stamp is text, epoch:sequence:hi:lo: the last invalidation, and a floor for origin versions.
local function parse(stamp)
  local e, s, hi, lo = (stamp or ''):match('^(%d+):(%d+):(%d+):(%d+)$')
  if not e then return nil end
  return { e = tonumber(e), s = tonumber(s), hi = tonumber(hi), lo = tonumber(lo) }
end

-- Whether version a is above version b: numbers, not text, which would compare by locale.
local function above(a, b)
  if a.hi ~= b.hi then return a.hi > b.hi end
  return a.lo > b.lo
end

-- Whether a record is surely worthless: of another epoch, or older than the invalidation of its resource.
local function dead(record, epoch, stamp)
  if not record then return false end
  if record.e ~= epoch then return true end
  return stamp ~= nil and stamp.e == epoch and stamp.s > record.s
end
