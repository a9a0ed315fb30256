// Package readthrough holds the tests of the main job, over the wire: a GET that misses is answered from a real PostgreSQL and
// written through to a real Redis Cluster; and of the program round it, run as people run it.
package readthrough
