"""`make release`: build everything that would be published into dist/, check it, and say what it is made of.

dist/ then holds the wheel and the source distribution, a package of each client (of C++ its sources, of Go what a
module proxy serves), a bill of materials of each (CycloneDX), `SHA256SUMS`, and `provenance.json`, which says from
which commit and by which command the files came.
Nothing is uploaded and nothing is signed: whoever publishes does both.
"""
