-- Removing records and leaving floors behind.

-- Stamps a key or resource with the sequence that comes next, and raises its floor; never shortens a stamp's life.
local function stamp(key, floor, keep)
  local old = parse(redis.call('GET', key))
  if old and above(old, floor) then floor = old end
  local life = math.max(keep, redis.call('PTTL', key))
  redis.call('SET', key, text(M.e) .. ':' .. text(M.s + 1) .. ':' .. text(floor.hi) .. ':' .. text(floor.lo),
    'PX', text(life))
end

-- Removes a record and its lease. The version of the removed record becomes a floor, so that a versioned put that was
-- under way does not bring back what was just invalidated. A hold takes the place of the lease.
local function remove(value, lease, floorkey, floor, keep, hold)
  local gone = header(redis.call('GETRANGE', value, 0, 27))
  redis.call('UNLINK', value, lease)
  if gone and above(gone, floor) then floor = gone end
  if floor.hi > 0 or floor.lo > 0 then stamp(floorkey, floor, keep) end
  if hold > 0 then redis.call('SET', lease, 'H', 'PX', text(hold)) end
end
