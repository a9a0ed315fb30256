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
	for _, b := range Tag(key) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^b]
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

// crcTable holds the CRC-16/XMODEM remainder of each byte: polynomial
// x^16 + x^12 + x^5 + 1, most significant bit first, initial value 0.
var crcTable = func() (table [256]uint16) {
	const polynomial = 0x1021
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ polynomial
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()
