// Package clients holds the tests that widespread clients, with their default settings, find in the sidecar the one Redis that
// they look for.
package clients
