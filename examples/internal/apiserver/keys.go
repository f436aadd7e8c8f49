package apiserver

import (
	"context"
	"flag"
	"os"

	"example.com/bearer"
)

// keyFlags are the flags that say where the issuer's keys come from, and which of
// its tokens are good.
type keyFlags struct {
	file, cache  string
	insecureHTTP bool
	types        list
	maxToken     int
}

func (f *keyFlags) register(flags *flag.FlagSet) {
	flags.StringVar(&f.file, "jwks-file", "", "`file` with the issuer's key set; no network is used then")
	flags.StringVar(&f.cache, "key-cache", "", "`directory` that keeps the issuer's keys across restarts")
	flags.BoolVar(&f.insecureHTTP, "insecure-http", false, "accept plain http to the issuer, where anybody on the way can replace its keys")
	flags.Var(&f.types, "type", "accepted `typ` of tokens, empty for none; may be repeated (default JWT, at+jwt, none)")
	flags.IntVar(&f.maxToken, "max-token", 16<<10, "longest accepted token, in `bytes`")
}

// apply sets in config what the flags say.
func (f *keyFlags) apply(config *bearer.Config) {
	config.InsecureHTTP, config.TokenTypes, config.MaxTokenLength = f.insecureHTTP, f.types, f.maxToken
	if f.file != "" {
		config.FetchKeys = func(context.Context) ([]byte, error) { return os.ReadFile(f.file) }
	}
	if f.cache != "" {
		config.KeyCache = bearer.DirCache(f.cache)
	}
}

// given tells which of the flags that need -issuer there are.
func (f *keyFlags) given() map[string]bool {
	return map[string]bool{"-jwks-file": f.file != "", "-key-cache": f.cache != "", "-insecure-http": f.insecureHTTP, "-type": f.types != nil}
}
