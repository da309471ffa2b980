-- A page of history; writes nothing.
-- KEYS: 2: meta, 3: log, 4: blanks.
-- ARGV: 2: name, 3: lowest offset wanted, 4: highest offset wanted, 5: 1 to read upwards from the
--   lowest, -1 downwards from the highest, 6: most items, 7: most bytes of data.
-- Answers {'OK', generation, head, more, {offset, ts, data, …}} in the direction read. Every
-- offset from the first on is in it: one that is not in the stream was blanked.
local CHUNK = 32 -- entries read at a time: a page bounded by bytes does not read far beyond it

local row = head(KEYS[2], KEYS[3], KEYS[4], ARGV[2])
local last, first = row[2], row[3]
local low = math.max(tonumber(ARGV[3]), first)
local high = math.min(tonumber(ARGV[4]), last)
local step, most, bytes = tonumber(ARGV[5]), math.max(tonumber(ARGV[6]), 1), tonumber(ARGV[7])
local up = step == 1
local at, stop = up and low or high, up and high or low
local items, count, size, ts = {}, 0, 0, 0

local function past() return (up and at > stop) or (not up and at < stop) end
-- Whether the page took the entry and goes on.
local function take(data, when)
  size = size + #data
  if count > 0 and (count >= most or size > bytes) then return false end
  items[3 * count + 1], items[3 * count + 2], items[3 * count + 3] = at, when, data
  count, at, ts = count + 1, at + step, when
  return true
end
local function take_blanks(before)
  while at ~= before and not past() do
    if not take(BLANK, tonumber(redis.call('HGET', KEYS[4], text(at)) or '') or ts) then
      return false
    end
  end
  return true
end

local open = true
while open and not past() do
  local entries = redis.call(up and 'XRANGE' or 'XREVRANGE', KEYS[3], text(at), text(stop),
    'COUNT', math.min(CHUNK, most - count + 1))
  for _, entry in ipairs(entries) do
    local when = tonumber(entry[2][2])
    if count == 0 then ts = when end
    open = open and take_blanks(tonumber(string.match(entry[1], '^%d+')))
    open = open and take(entry[2][4], when)
    if not open then break end
  end
  if #entries == 0 then open = take_blanks(stop + step) end
end
return {'OK', generation, row, past() and 0 or 1, items}
