package suggest

import "testing"

func TestDidYouMean(t *testing.T) {
	names := []string{"port", "admin-port", "image", "image-pull-policy"}
	for _, c := range []struct{ written, want string }{
		{"prot", ": did you mean port?"},
		{"Port", ": did you mean port?"},
		{"admin_port", ": did you mean admin-port?"},
		{"image-pull", ": did you mean image-pull-policy?"},
		{"memory", ""},
		{"p", ": did you mean port?"},
		{"", ""},
	} {
		if got := DidYouMean(c.written, names); got != c.want {
			t.Errorf("DidYouMean(%q) = %q, want %q", c.written, got, c.want)
		}
	}
}
