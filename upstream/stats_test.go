package upstream

import (
	"reflect"
	"testing"
)

// A figure that Add forgets would be that of one loop alone.
func TestStatsAddAllFigures(t *testing.T) {
	var one, sum Stats
	for v, i := reflect.ValueOf(&one).Elem(), 0; i < v.NumField(); i++ {
		if field := v.Field(i); field.CanUint() {
			field.SetUint(1)
		} else {
			field.SetInt(1)
		}
	}
	if sum.Add(one); sum != one {
		t.Errorf("%+v, want %+v", sum, one)
	}
}
