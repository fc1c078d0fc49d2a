"""A server of Milvus's protocol for the tests: Milvus Lite, over the network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import milvus_pb2_grpc


class Listener(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Notes the header `authorization` of each call."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self.seen: set[str] = set()

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Note the header, and continue."""
        self.seen.update(
            str(value) for key, value in handler_call_details.invocation_metadata if key == "authorization"
        )
        return continuation(handler_call_details)


class Server:
    """A server of Milvus's protocol, by Milvus Lite, which can be stopped and started again at the same address.

    Attributes:
        uri: its address.
        listener: what was heard.
    """

    def __init__(self, folder: Path) -> None:
        """Start."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri, self.listener, self._folder = f"http://127.0.0.1:{self._port}", Listener(), folder
        self.start()

    def start(self) -> None:
        """Serve what is in the folder."""
        self._database = MilvusLite(str(self._folder))
        self._server = grpc.server(ThreadPoolExecutor(2), interceptors=[self.listener])
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(self._database), self._server)
        self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self._server.start()

    def stop(self) -> None:
        """Write what is left."""
        self._server.stop(grace=None).wait()
        self._database.close()
