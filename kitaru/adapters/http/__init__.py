"""`kitaru.record_http`: each call of a model endpoint, by whichever SDK, is a step.

The transports beneath the SDKs (httpx, httpx2, requests, botocore) are wrapped once. What `endpoints` knows as a call
of a model becomes an `exchange.Exchange`; everything else passes through untouched. See
docs/decisions/039-the-transport-beneath-the-sdks.md.
"""
