-- Removing records and leaving floors behind.

-- Stamps a key or resource with a sequence, and raises its floor; never shortens a stamp's life.
local function stamp(key, s, floor, keep)
  local old = parse(call('GET', key))
  if old and above(old, floor) then floor = old end
  local life = math.max(tonumber(keep), call('PTTL', key))
  call('SET', key, EPOCH .. ':' .. s .. ':' .. floor.hi .. ':' .. floor.lo, 'PX', life)
end

-- Removes a record and its lease. The version of the removed record becomes a floor, so that a versioned put that was
-- under way does not bring back what was just invalidated. (In the floor of a key the sequence says nothing.) A hold
-- takes the place of the lease, and stays until its time is over or a longer one comes.
local function remove(value, lease, floorkey, hi, lo, keep, hold)
  local head = call('GETRANGE', value, '0', '27')
  local held = call('GET', lease) == 'H'
  if held then call('UNLINK', value) else call('UNLINK', value, lease) end
  -- Mostly there are no versions.
  if hi ~= '0' or lo ~= '0' or (#head == 28 and head:sub(21) ~= '\0\0\0\0\0\0\0\0') then
    local floor, gone = { hi = tonumber(hi), lo = tonumber(lo) }, header(head)
    if gone and above(gone, floor) then floor = gone end
    if floor.hi > 0 or floor.lo > 0 then stamp(floorkey, 0, floor, keep) end
  end
  if hold ~= '0' and not (held and call('PTTL', lease) >= tonumber(hold)) then call('SET', lease, 'H', 'PX', hold) end
end
