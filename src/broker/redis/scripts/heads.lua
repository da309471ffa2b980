-- The heads of channels of one partition; writes nothing.
-- KEYS: 2, 3: meta and log of the first channel; 4, 5: of the second; …
-- ARGV: 2: name of the first channel; 3: of the second; …
-- Answers {'OK', generation, head, …}; a head is what `head` in prelude.lua makes.
local answer = {'OK', generation}
for at = 2, #ARGV do
  answer[#answer + 1] = head(KEYS[2 * at - 2], KEYS[2 * at - 1], ARGV[at])
end
return answer
