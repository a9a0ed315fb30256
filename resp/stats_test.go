package resp

import (
	"reflect"
	"testing"
)

// A figure that Add forgets would be that of one loop alone.
func TestStatsAddAllFigures(t *testing.T) {
	one := Stats{Commands: map[string]Count{"get": {1, 1, 1}}}
	for v, i := reflect.ValueOf(&one).Elem(), 0; i < v.NumField(); i++ {
		switch field := v.Field(i); {
		case field.CanUint():
			field.SetUint(1)
		case field.CanInt():
			field.SetInt(1)
		}
	}
	var sum Stats
	sum.Add(one)
	if !reflect.DeepEqual(sum, one) {
		t.Errorf("%+v, want %+v", sum, one)
	}
}
