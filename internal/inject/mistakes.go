package inject

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// minMemory is the least limit under which the sidecar starts and serves.
var minMemory = resource.MustParse("32Mi")

// mistakes finds what no single setting shows. name says where the setting with a key was given; where it is empty the
// setting is unknown, and so is what it contradicts.
func (s *Settings) mistakes(name func(key string) string) []string {
	var found []string
	wrong := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }

	ports := []struct {
		key  string
		port Port
	}{{"port", s.Port}, {"adminPort", s.AdminPort}, {"debugPort", s.DebugPort}}
	for i, a := range ports {
		for _, b := range ports[:i] {
			if a.port == b.port && name(a.key) != "" && name(b.key) != "" {
				wrong("%s and %s are both %d: write different ports", name(b.key), name(a.key), a.port)
			}
		}
	}
	less := func(limitKey string, limit resource.Quantity, requestKey string, request resource.Quantity) {
		if !limit.IsZero() && limit.Cmp(request) < 0 && name(limitKey) != "" && name(requestKey) != "" {
			wrong("%s is %s, less than %s, which is %s: raise the one or lower the other",
				name(limitKey), &limit, name(requestKey), &request)
		}
	}
	less("cpuLimit", s.CPULimit, "cpuRequest", s.CPURequest)
	less("memoryLimit", s.MemoryLimit, "memoryRequest", s.MemoryRequest)
	if !s.MemoryLimit.IsZero() && s.MemoryLimit.Cmp(minMemory) < 0 && name("memoryLimit") != "" {
		wrong("%s is %s, with which the sidecar cannot run: write %s or more", name("memoryLimit"), &s.MemoryLimit, &minMemory)
	}
	for _, v := range s.Secrets {
		for _, own := range []struct {
			key, variable string
			ref           SecretRef
		}{{"originSecret", originVariable, s.OriginSecret}, {"redisSecret", redisVariable, s.RedisSecret}} {
			if v.Name == own.variable && own.ref.Name != "" {
				wrong("%s has %s, which %s gives too: keep one", name("secrets"), v.Name, name(own.key))
			}
		}
	}
	return found
}
