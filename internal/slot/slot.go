// Package slot computes the hash slot of a Redis Cluster key.
//
// The rule is that of the Redis Cluster specification ("Key distribution
// model" and "Hash tags"): CRC-16/XMODEM of the key, or of its hash tag where
// it has one, modulo 16384.
package slot

import "bytes"

// Count is the number of hash slots of every Redis Cluster.
const Count = 16384

// Of returns the hash slot of key, in [0, Count).
func Of(key []byte) uint16 {
	var crc uint16
	tag := Tag(key)
	for ; len(tag) >= 8; tag = tag[8:] {
		crc = remainders[7][tag[0]^byte(crc>>8)] ^ remainders[6][tag[1]^byte(crc)] ^
			remainders[5][tag[2]] ^ remainders[4][tag[3]] ^ remainders[3][tag[4]] ^
			remainders[2][tag[5]] ^ remainders[1][tag[6]] ^ remainders[0][tag[7]]
	}
	for _, b := range tag {
		crc = crc<<8 ^ remainders[0][byte(crc>>8)^b]
	}
	return crc % Count
}

// Tag returns the part of key that decides its slot: what stands between the
// first '{' and the first '}' after it, or the whole key where that is empty or
// missing. The result aliases key.
func Tag(key []byte) []byte {
	open := bytes.IndexByte(key, '{')
	if open < 0 {
		return key
	}
	inner := key[open+1:]
	if n := bytes.IndexByte(inner, '}'); n > 0 {
		return inner[:n]
	}
	return key
}

// remainders[n] holds the CRC-16/XMODEM remainder of each byte with n zeros
// behind it: polynomial x^16 + x^12 + x^5 + 1, most significant bit first,
// initial value 0. Since the remainder of a sum is the sum of the remainders,
// eight bytes take one step whose parts do not wait for each other (Kounavis and
// Berry, "Novel Table Lookup-Based Algorithms for High-Performance CRC
// Generation", 2008).
var remainders = func() (tables [8][256]uint16) {
	const polynomial = 0x1021
	for i := range tables[0] {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ polynomial
			} else {
				crc <<= 1
			}
		}
		tables[0][i] = crc
	}
	for n := 1; n < len(tables); n++ {
		for i, crc := range tables[n-1] {
			tables[n][i] = crc<<8 ^ tables[0][crc>>8]
		}
	}
	return tables
}()
