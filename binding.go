package bearer

// checkBinding decides whether the sender of a request may use the token that c was
// read from. It is asked for every request, also when the token comes from the
// cache: a proof counts for one request only.
//
// RFC 7800, section 3: a token that is bound to a key is worth nothing without
// proof of that key, and no proof is asked for.
func checkBinding(c confirmation) error {
	if c.present {
		return &cause{reason: "bound", claim: "cnf"}
	}
	return nil
}
