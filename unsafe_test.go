package bearer_test

import "unsafe"

// unsafeString returns a string that changes with b, as servers hand them out
// that use their buffers again.
func unsafeString(b []byte) string { return unsafe.String(&b[0], len(b)) }

// sameMemory reports whether a and b are one string and not two alike.
func sameMemory(a, b string) bool { return unsafe.StringData(a) == unsafe.StringData(b) }
