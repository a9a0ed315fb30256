package parity

import (
	"crypto/sha1"
	"encoding/hex"
)

// scripts return every kind of reply that Lua has, and touch no key but those they declare.
var scripts = []string{
	`return {KEYS, ARGV}`,
	`redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])`,
	`return redis.call('TYPE', KEYS[1])`,
	`return redis.pcall('INCR', KEYS[1])`,
	`return redis.call('LPUSH', KEYS[1], ARGV[1])`,
	`redis.setresp(3) return redis.call('HGETALL', KEYS[1])`,
	`redis.setresp(3) return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')`,
	`return {1, 2.9, 'three', {4, {}}, false, true}`,
	`return {double = 3.25}`,
	`return {map = {a = {double = 1}}}`,
	`return {big_number = '123456789012345678901234567890'}`,
	`return {verbatim_string = {format = 'txt', string = 'hello'}}`,
	`return redis.status_reply('FINE')`,
	`return redis.error_reply('MINE is an error')`,
	`return nil`,
	`error('thrown')`,
	`this is not Lua`,
}

// scriptSHAs are what EVALSHA calls the scripts.
var scriptSHAs = func() []string {
	var shas []string
	for _, s := range scripts {
		sum := sha1.Sum([]byte(s))
		shas = append(shas, hex.EncodeToString(sum[:]))
	}
	return shas
}()

const library = `#!lua name=parity
redis.register_function('count', function(keys) return redis.call('INCR', keys[1]) end)
redis.register_function{function_name='echo', callback=function(keys, args) return {keys, args} end, flags={'no-writes'}}
`
