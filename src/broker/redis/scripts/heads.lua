-- The heads of channels of one partition; writes nothing.
-- KEYS: 2, 3, 4: meta, log and blanks of the first channel; 5, 6, 7: of the second; …
-- ARGV: 2: name of the first channel; 3: of the second; …
-- Answers {'OK', generation, head, …}; a head is what `head` in channel.lua makes.
local answer = {'OK', generation}
for at = 2, #ARGV do
  answer[#answer + 1] = head(KEYS[3 * at - 4], KEYS[3 * at - 3], KEYS[3 * at - 2], ARGV[at])
end
return answer
