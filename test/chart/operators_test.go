package chart

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// The kinds of cert-manager and of the Prometheus Operator, as much of them as the chart uses. Their field names were taken from those
// projects' API documents; no code of theirs is run here.

type custom struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

// DeepCopyObject makes it a runtime.Object. Nothing here copies.
func (c *custom) DeepCopyObject() runtime.Object { panic("not copied") }

type issuer struct {
	custom `json:",inline"`
	Spec   struct {
		SelfSigned *struct{} `json:"selfSigned"`
		CA         *struct {
			SecretName string `json:"secretName"`
		} `json:"ca"`
	} `json:"spec"`
}

type certificate struct {
	custom `json:",inline"`
	Spec   struct {
		IsCA       bool     `json:"isCA"`
		CommonName string   `json:"commonName"`
		SecretName string   `json:"secretName"`
		Duration   string   `json:"duration"`
		DNSNames   []string `json:"dnsNames"`
		Usages     []string `json:"usages"`
		PrivateKey struct {
			Algorithm      string `json:"algorithm"`
			Size           int    `json:"size"`
			RotationPolicy string `json:"rotationPolicy"`
		} `json:"privateKey"`
		IssuerRef struct {
			Group string `json:"group"`
			Kind  string `json:"kind"`
			Name  string `json:"name"`
		} `json:"issuerRef"`
	} `json:"spec"`
}

type namespaceSelector struct {
	Any        bool     `json:"any"`
	MatchNames []string `json:"matchNames"`
}

type endpoint struct {
	Port          string `json:"port"`
	Path          string `json:"path"`
	Interval      string `json:"interval"`
	ScrapeTimeout string `json:"scrapeTimeout"`
}

type podMonitor struct {
	custom `json:",inline"`
	Spec   struct {
		NamespaceSelector   namespaceSelector    `json:"namespaceSelector"`
		Selector            metav1.LabelSelector `json:"selector"`
		PodMetricsEndpoints []endpoint           `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

type serviceMonitor struct {
	custom `json:",inline"`
	Spec   struct {
		NamespaceSelector namespaceSelector    `json:"namespaceSelector"`
		Selector          metav1.LabelSelector `json:"selector"`
		Endpoints         []endpoint           `json:"endpoints"`
	} `json:"spec"`
}
