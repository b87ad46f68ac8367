/** The conformance suite through the Java client: client/conformance/README.md says what is tried and printed. */
package dev.samplerd.conformance;
