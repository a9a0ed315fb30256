// Package chart holds the tests of the Helm chart and of the manifests rendered from it: what they render, that the API knows every
// field of it, that bad values are refused with a message that helps, and that the program takes what it is given.
package chart
