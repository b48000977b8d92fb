// Checks our checkpoint and proofs with Go's own transparency log packages (golang.org/x/mod/sumdb).
// Reads cases as JSON on stdin, prints one line per wrong answer, and the number of cases last.
package main

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type verifier struct {
	name string
	hash uint32
	key  *ecdsa.PublicKey
}

func (v verifier) Name() string    { return v.name }
func (v verifier) KeyHash() uint32 { return v.hash }
func (v verifier) Verify(msg, sig []byte) bool {
	digest := sha256.Sum256(msg)
	return ecdsa.VerifyASN1(v.key, digest[:], sig)
}

type proof struct {
	Kind     string
	Old, New int64
	OldHash  tlog.Hash
	NewHash  tlog.Hash
	Hashes   []tlog.Hash
	Valid    bool
}

type cases struct {
	Name, Pem string
	Notes     []struct {
		Text  string
		Valid bool
	}
	Proofs []proof
}

func main() {
	var given cases
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	block, _ := pem.Decode([]byte(given.Pem))
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		panic(err)
	}
	id := sha256.Sum256(block.Bytes)
	known := note.VerifierList(verifier{given.Name, binary.BigEndian.Uint32(id[:4]), parsed.(*ecdsa.PublicKey)})
	for i, n := range given.Notes {
		if _, err := note.Open([]byte(n.Text), known); (err == nil) != n.Valid {
			fmt.Println("note", i, err)
		}
	}
	for i, p := range given.Proofs {
		var err error
		if p.Kind == "inclusion" {
			err = tlog.CheckRecord(p.Hashes, p.New, p.NewHash, p.Old, p.OldHash)
		} else {
			err = tlog.CheckTree(p.Hashes, p.New, p.NewHash, p.Old, p.OldHash)
		}
		if (err == nil) != p.Valid {
			fmt.Println(p.Kind, i, err)
		}
	}
	fmt.Println(len(given.Notes) + len(given.Proofs))
}
