"""A fuzzer of the HTTP parsers, and the checks that it and the tests make of one input."""
