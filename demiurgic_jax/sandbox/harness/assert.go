// Package assert holds the few checks of testify that tests of benchmarks use, with the same meaning.
package assert

import (
	"bytes"
	"math"
	"reflect"
	"testing"
)

type Assertions struct{ t *testing.T }

func New(t *testing.T) *Assertions { return &Assertions{t} }

func same(expected, actual interface{}) bool {
	if left, ok := expected.([]byte); ok {
		right, ok := actual.([]byte)
		return ok && (left == nil) == (right == nil) && bytes.Equal(left, right)
	}
	return reflect.DeepEqual(expected, actual)
}

func missing(value interface{}) bool {
	if value == nil {
		return true
	}
	switch held := reflect.ValueOf(value); held.Kind() {
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.Map, reflect.Ptr, reflect.Slice:
		return held.IsNil()
	}
	return false
}

func check(t *testing.T, holds bool, what string, values ...interface{}) bool {
	t.Helper()
	if !holds {
		t.Errorf("%s does not hold: %#v", what, values)
	}
	return holds
}

func Equal(t *testing.T, expected, actual interface{}, _ ...interface{}) bool {
	return check(t, same(expected, actual), "Equal", expected, actual)
}
func NotEqual(t *testing.T, expected, actual interface{}, _ ...interface{}) bool {
	return check(t, !same(expected, actual), "NotEqual", expected, actual)
}
func True(t *testing.T, value bool, _ ...interface{}) bool   { return check(t, value, "True") }
func False(t *testing.T, value bool, _ ...interface{}) bool  { return check(t, !value, "False") }
func Nil(t *testing.T, value interface{}, _ ...interface{}) bool { return check(t, missing(value), "Nil", value) }
func NotNil(t *testing.T, value interface{}, _ ...interface{}) bool {
	return check(t, !missing(value), "NotNil")
}
func NoError(t *testing.T, err error, _ ...interface{}) bool { return check(t, err == nil, "NoError", err) }
func Error(t *testing.T, err error, _ ...interface{}) bool   { return check(t, err != nil, "Error") }
func InDelta(t *testing.T, expected, actual, delta float64, _ ...interface{}) bool {
	return check(t, math.Abs(expected-actual) <= delta, "InDelta", expected, actual)
}

func (a *Assertions) Equal(expected, actual interface{}, _ ...interface{}) bool {
	return Equal(a.t, expected, actual)
}
func (a *Assertions) NotEqual(expected, actual interface{}, _ ...interface{}) bool {
	return NotEqual(a.t, expected, actual)
}
func (a *Assertions) True(value bool, _ ...interface{}) bool         { return True(a.t, value) }
func (a *Assertions) False(value bool, _ ...interface{}) bool        { return False(a.t, value) }
func (a *Assertions) Nil(value interface{}, _ ...interface{}) bool    { return Nil(a.t, value) }
func (a *Assertions) NotNil(value interface{}, _ ...interface{}) bool { return NotNil(a.t, value) }
func (a *Assertions) NoError(err error, _ ...interface{}) bool        { return NoError(a.t, err) }
func (a *Assertions) Error(err error, _ ...interface{}) bool          { return Error(a.t, err) }
func (a *Assertions) InDelta(expected, actual, delta float64, _ ...interface{}) bool {
	return InDelta(a.t, expected, actual, delta)
}
