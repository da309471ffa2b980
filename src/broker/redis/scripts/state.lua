-- A page of keyed state in rising offset order; writes nothing.
-- KEYS: 2: meta, 3: log, 4: blanks, 5: state, 6: live, 7: tombstones.
-- ARGV: 2: name, 3: lowest offset wanted, 4: 1 for a catch-up (tombstones and the newest without
--   a key too), 5: most items, 6: most bytes.
-- Answers {'OK', generation, head, more, {entry, …}}; an entry is what `publish` stored.
local CHUNK = 64 -- entries looked up at a time

local row = head(KEYS[2], KEYS[3], KEYS[4], ARGV[2])
local catch_up = ARGV[4] == '1'
local most, bytes = math.max(tonumber(ARGV[5]), 1), tonumber(ARGV[6])
local items, size, more = {}, 0, 0

local function offset_of(entry) return tonumber(string.match(entry, '^%d+')) end
local function is_over(entry)
  local due = tonumber(string.match(entry, '^%d+ %d+ (%d+)'))
  return due > 0 and due <= now
end
-- Reads a sorted set of offsets upwards, a chunk at a time.
local function cursor(ranks, from)
  local chunk, at, skipped = {}, 1, 0
  return function()
    if at > #chunk then
      chunk = redis.call('ZRANGEBYSCORE', ranks, from, '+inf', 'LIMIT', skipped, CHUNK)
      skipped, at = skipped + #chunk, 1
      if #chunk > 0 then chunk = redis.call('HMGET', KEYS[5], unpack(chunk)) end
    end
    at = at + 1
    return chunk[at - 1]
  end
end

if row[6] == 1 then
  local heads, nexts = {}, {cursor(KEYS[6], ARGV[3])}
  if catch_up then
    nexts[2] = cursor(KEYS[7], ARGV[3])
    local keyless = redis.call('HGET', KEYS[5], '-')
    if keyless and offset_of(keyless) >= tonumber(ARGV[3]) then heads[3] = keyless end
  end
  for which, following in pairs(nexts) do heads[which] = following() end
  while true do
    local least
    for which = 1, 3 do
      if heads[which] and (not least or offset_of(heads[which]) < offset_of(heads[least])) then
        least = which
      end
    end
    if not least then break end
    local entry = heads[least]
    heads[least] = nexts[least] and nexts[least]()
    -- A tombstone stays until it is dropped, which raises the floor.
    if least == 2 or not is_over(entry) then
      size = size + #entry
      if #items > 0 and (#items >= most or size > bytes) then
        more = 1
        break
      end
      items[#items + 1] = entry
    end
  end
end
return {'OK', generation, row, more, items}
