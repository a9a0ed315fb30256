package faults

import (
	"testing"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
