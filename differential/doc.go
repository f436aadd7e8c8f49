// Package differential holds tests only: they compare package bearer with other
// libraries and with published test vectors. It is a module of its own, so that
// what it needs for that is no requirement of package bearer.
package differential
