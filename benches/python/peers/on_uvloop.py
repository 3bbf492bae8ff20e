"""uvloop: asyncio's benches on its loop."""

import uvloop

from peers import on_asyncio

on_asyncio.FACTORY = uvloop.new_event_loop
BENCHES = on_asyncio.BENCHES
park = on_asyncio.park
