package upstream

import (
	"strings"
	"testing"
)

func TestOptionsValidate(t *testing.T) {
	good := Options{Addresses: []string{"redis:6379", "[::1]:6379", "10.0.0.1:6379"}, Database: 3}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := Options{Addresses: []string{"redis", "::1:6379", ":6379", "redis:"}, Database: -1}
	err := bad.Validate()
	for _, want := range []string{`"redis"`, `"::1:6379"`, `":6379"`, `"redis:"`, "IPv6 address in brackets", "database -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %s", err, want)
		}
	}
	if err := (&Options{}).Validate(); err == nil || !strings.Contains(err.Error(), "no Redis address") {
		t.Errorf("error %v", err)
	}
}
