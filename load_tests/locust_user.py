"""A locust user that reads plates over gRPC with the product's own client.

Import this module before anything opens a gRPC channel: gRPC's own threads know nothing of gevent
until `init_gevent` has run, and would block every user at once.
"""

from __future__ import annotations

import grpc.experimental.gevent as grpc_gevent  # type: ignore[import-untyped]

grpc_gevent.init_gevent()

import random  # noqa: E402
import time  # noqa: E402
from typing import Any, ClassVar  # noqa: E402

from locust import User, constant, task  # noqa: E402

from clients import (  # noqa: E402
    ClientError,
    ClientOptions,
    InvalidPicture,
    PlateClient,
    PlateReading,
    RetryPolicy,
    ServerError,
)
from load_tests.pictures import Picture, find_pictures  # noqa: E402
from lprnet import contract  # noqa: E402

PICTURES = 500
REQUEST_TYPE = "grpc"


class Failure(Exception):
    """A failed request under the name of its class, so that locust counts equals together."""

    def __repr__(self) -> str:
        return str(self)


class AnswerChanged(ClientError):
    """The server read a picture otherwise than before."""


def classify(error: ClientError) -> Failure:
    """Class of the client's error, with the server's code or the picture's fault."""
    name = type(error).__name__
    if isinstance(error, InvalidPicture):
        return Failure(f"{name}: {error.reason}")
    if isinstance(error, ServerError):
        return Failure(f"{name}: {error.code}")
    return Failure(name)


class PlateUser(User):
    """Sends one picture after another and waits for each plate.

    Its client never repeats a call: every failure shows. A picture must be read the same every
    time, whatever else is in its batch.
    """

    wait_time = constant(0)
    pictures: ClassVar[tuple[Picture, ...]] = ()
    seen: ClassVar[dict[str, str]] = {}

    def on_start(self) -> None:
        """Connect; the first user loads the pictures."""
        if not PlateUser.pictures:
            PlateUser.pictures = find_pictures(PICTURES).pictures
        options = ClientOptions(
            timeout_s=self.environment.parsed_options.deadline_s, retry=RetryPolicy(budget=0)
        )
        self.client = PlateClient(self.host, options)

    def on_stop(self) -> None:
        """Close the connection."""
        self.client.close()

    @task
    def read_plate(self) -> None:
        """One picture: one event, with the time to the resolved reply."""
        picture = random.choice(self.pictures)
        reading: PlateReading | None = None
        failure: Failure | None = None
        begin = time.perf_counter()
        try:
            reading = self.client.read_image(picture.data)
        except ClientError as error:
            failure = classify(error)
        elapsed_ms = (time.perf_counter() - begin) * 1e3
        if reading is not None and self.seen.setdefault(picture.name, reading.plate) != (
            reading.plate
        ):
            failure = classify(AnswerChanged())
        event: dict[str, Any] = {
            "request_type": REQUEST_TYPE,
            "name": contract.IMAGE_ENSEMBLE,
            "response_time": elapsed_ms,
            "response_length": 0 if reading is None else len(reading.plate),
            "exception": failure,
            "context": {},
        }
        self.environment.events.request.fire(**event)
