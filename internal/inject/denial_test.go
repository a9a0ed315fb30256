package inject

import "testing"

func TestMissingConfig(t *testing.T) {
	ref := ConfigRef{"readthrough", "readthrough.yaml"}
	for _, c := range []struct {
		denial *Denial
		want   string
	}{
		{MissingConfigMap("shop", ref), `the sidecar's configuration is missing: there is no ConfigMap readthrough in namespace shop. Make it:
  kubectl -n shop create configmap readthrough --from-file=readthrough.yaml
or name another by the annotation readthrough/config`},
		{MissingConfigMap("shop", ConfigRef{"cache", "maps.yaml"}), `the sidecar's configuration is missing: there is no ConfigMap cache in namespace shop. Make it:
  kubectl -n shop create configmap cache --from-file=maps.yaml=readthrough.yaml
or name another by the annotation readthrough/config`},
		{MissingConfigKey("shop", ref, []string{"z.yml", "a.yaml", "tenant-key.pem", "yaml"}), `the sidecar's configuration is missing: ConfigMap readthrough in namespace shop has no key readthrough.yaml, but a.yaml, z.yml. Name the key by the annotation readthrough/config: readthrough/KEY, or add it:
  kubectl -n shop edit configmap readthrough`},
		{MissingConfigKey("shop", ref, nil), `the sidecar's configuration is missing: ConfigMap readthrough in namespace shop has no key readthrough.yaml, and no other that ends in .yaml or .yml. Add it:
  kubectl -n shop edit configmap readthrough`},
		{MissingConfigKey("shop", ref, []string{"tenant-key.pem"}), `the sidecar's configuration is missing: ConfigMap readthrough in namespace shop has no key readthrough.yaml, and no other that ends in .yaml or .yml. Add it:
  kubectl -n shop edit configmap readthrough`},
	} {
		if got := c.denial.Error(); got != c.want {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
}
