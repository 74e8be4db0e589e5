// Initialised before the candidate's package, which comes to know neither its path nor what it holds.
package token

import "os"

var token []byte
var report *os.File

func init() {
	if len(os.Args) != 3 {
		os.Exit(70)
	}
	job := os.NewFile(number(os.Args[1]), "job")
	report = os.NewFile(number(os.Args[2]), "report")
	token = make([]byte, 32)
	for n := 0; n < len(token); {
		part, err := job.Read(token[n:])
		if err != nil {
			os.Exit(70)
		}
		n += part
	}
	job.Close()
	os.Args = os.Args[:1]
}

func number(text string) uintptr {
	value := uintptr(0)
	for _, digit := range text {
		value = value*10 + uintptr(digit-'0')
	}
	return value
}

func Report() { report.Write(token) }
