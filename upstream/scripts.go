package upstream

import (
	"context"
	"crypto/sha1" // the name by which Redis knows a script
	"encoding/hex"
	"strconv"

	"github.com/redis/rueidis"
)

// The lease protocol as it runs in Redis: on a key K, KEYS[1], and its lease key L, KEYS[2], which hold in one slot:
//
//	L = t<token>                  somebody loads K and may fill it in; L expires when its time is over
//	L = m                         K is known not to exist
//	L = f<until>:<sum>            K was filled in by a sidecar, with a value of that SHA-1, and is fresh until then
//	L = r<deadline>:<sum>:<token> the same, and somebody replaces it, which nobody else does before the deadline
//
// Times are milliseconds of the node's clock. Whoever writes K by way of a sidecar removes L first, so that what was loaded before can
// never be filled in after. The sum is there because a fill may come between a write and the removal of L that goes before it: the mark
// is then beside a value that it does not belong to.

// script is a Lua script, called by its hash and said in full where the node does not know it.
type script struct{ text, hash string }

func newScript(text string) *script {
	sum := sha1.Sum([]byte(text))
	return &script{text, hex.EncodeToString(sum[:])}
}

// The answers of scripts, as numbers.
const (
	answerHit     = 1
	answerMissing = 2
	answerWait    = 3
	answerGranted = 4
)

// setText ends the scripts that give a right, which is in the local variable right, for lasts ms. It is given to nobody whose
// user could not remove it: where a void is refused, nothing may be filled in. The first SET is there because Redis refuses what needs
// memory only as a script's first write.
const setText = `
redis.call('SET', KEYS[2], right, 'PX', lasts)
local gone = redis.pcall('UNLINK', KEYS[2])
if type(gone) == 'table' then
  redis.call('DEL', KEYS[2])
  return gone
end
redis.call('SET', KEYS[2], right, 'PX', lasts)
`

// acquire: ARGV = token, how long a lease lasts in ms. Answers {hit, value} (without the value where it is no string), {missing}, {wait}
// or {granted}. Said twice, it is granted twice.
var acquireScript = newScript(`
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' then
  if string.sub(value.err, 1, 9) == 'WRONGTYPE' then return {1} end
  return value
end
if value then return {1, value} end
local lease = redis.call('GET', KEYS[2])
if lease == 'm' then return {2} end
if lease == 't' .. ARGV[1] then return {4} end
if lease and string.sub(lease, 1, 1) == 't' then return {3} end
if lease and string.sub(lease, 1, 1) == 'r' then
  local now = redis.call('TIME')
  if tonumber(string.match(lease, '^r(%d+):')) > now[1] * 1000 + math.floor(now[2] / 1000) then return {3} end
end
local right, lasts = 't' .. ARGV[1], ARGV[2]
` + setText + `return {4}`)

// fill: ARGV = token, 1 where there is a row, value, how long K lives, how long it is fresh (0: it is not replaced), how long it is
// remembered that there is no row (0: not at all), in ms; SHA-1 of the value, where it is fresh for a time. Answers 1 where the lease
// was still there, and K absent.
var fillScript = newScript(`
if redis.call('GET', KEYS[2]) ~= 't' .. ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[2])
  return 0
end
` + putText)

// putText ends the scripts that put a value, or the word that there is none, where they may.
const putText = `
if ARGV[2] == '1' then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
  if ARGV[5] == '0' then
    redis.call('DEL', KEYS[2])
  else
    local now = redis.call('TIME')
    local fresh = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[5]
    redis.call('SET', KEYS[2], 'f' .. string.format('%.0f', fresh) .. ':' .. ARGV[7], 'PX', ARGV[4])
  end
else
  redis.call('DEL', KEYS[1])
  if ARGV[6] == '0' then
    redis.call('DEL', KEYS[2])
  else
    redis.call('SET', KEYS[2], 'm', 'PX', ARGV[6])
  end
end
return 1
`

// giveBack: ARGV = token.
var giveBackScript = newScript(`
if redis.call('GET', KEYS[2]) == 't' .. ARGV[1] then return redis.call('DEL', KEYS[2]) end
return 0
`)

// renew: ARGV = token, how long nobody else may replace K, in ms. Answers {missing} where K was not filled in by a sidecar, {wait, ms} where
// it is fresh for so long, or somebody replaces it, or {granted, SHA-1 of the value}.
var renewScript = newScript(`
local lease = redis.call('GET', KEYS[2])
local deadline, sum, token
if lease then deadline, sum, token = string.match(lease, '^[fr](%d+):(%x+):?(.*)$') end
if not deadline then return {2} end
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
if token ~= ARGV[1] and tonumber(deadline) > now then return {3, tonumber(deadline) - now} end
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' and string.sub(value.err, 1, 9) ~= 'WRONGTYPE' then return value end
if type(value) ~= 'string' or redis.sha1hex(value) ~= sum then
  redis.call('DEL', KEYS[2])
  return {2}
end
local right = 'r' .. string.format('%.0f', now + ARGV[2]) .. ':' .. sum .. ':' .. ARGV[1]
local lasts = math.max(redis.call('PTTL', KEYS[2]), 1)
` + setText + `return {4, sum}`)

// replace: ARGV as of fill, and the SHA-1 of the value that renew has seen. Answers 1 where K holds that still, and the right is there.
var replaceScript = newScript(`
local lease = redis.call('GET', KEYS[2])
if not lease or string.match(lease, '^r%d+:%x+:(.*)$') ~= ARGV[1] then return 0 end
local value = redis.pcall('GET', KEYS[1])
if type(value) ~= 'string' or redis.sha1hex(value) ~= ARGV[8] then
  redis.call('DEL', KEYS[2])
  return 0
end
` + putText)

// invocation is one call of a script.
type invocation struct {
	script   *script
	key      []byte
	leaseKey []byte
	args     []string
}

func (v *invocation) command(name, script string) []string {
	return append([]string{name, script, "2", rueidis.BinaryString(v.key), rueidis.BinaryString(v.leaseKey)}, v.args...)
}

// invoke calls scripts in one round trip, and in a second one those that the node does not know. The error says why there are no
// replies; errors of Redis are in the replies.
func (c *client) invoke(ctx context.Context, calls []invocation) ([]rueidis.RedisResult, error) {
	commands := make([][]string, len(calls))
	for i := range calls {
		commands[i] = calls[i].command("EVALSHA", calls[i].script.hash)
	}
	results, err := c.do(ctx, commands...)
	if results == nil {
		return nil, err
	}
	var unknown []int
	commands = commands[:0]
	for i := range results {
		if hasCode(results[i].Error(), "NOSCRIPT") {
			unknown = append(unknown, i)
			commands = append(commands, calls[i].command("EVAL", calls[i].script.text))
		}
	}
	if len(unknown) == 0 {
		return results, nil
	}
	said, err := c.do(ctx, commands...)
	if said == nil {
		return nil, err
	}
	for n, i := range unknown {
		results[i] = said[n]
	}
	return results, nil
}

func milliseconds[D ~int64](d D) string { return strconv.FormatInt(int64(d)/1e6, 10) }
