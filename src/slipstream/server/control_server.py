"""Serves the supervisor's Unix socket. Loads the routes and their framework when somebody first connects."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator

import uvicorn
