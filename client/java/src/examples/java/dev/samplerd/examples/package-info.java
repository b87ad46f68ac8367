/** Programs that a reader can start from. */
package dev.samplerd.examples;
