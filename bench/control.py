# SPDX-License-Identifier: Apache-2.0
"""Commands for a server over its control socket, without a process for each (docs/control.md)."""

import json
import socket
import time

from run import Failed


class Control:
	"""A connection, beside the NBD socket at this path."""

	def __init__(self, path):
		self.socket = socket.socket(socket.AF_UNIX)
		self.socket.connect(f"{path}.control")
		self.answers = self.socket.makefile()

	def ask(self, **request):
		"""Returns how many seconds it took."""
		began = time.monotonic()
		self.socket.sendall(json.dumps(request).encode() + b"\n")
		answer = {"progress": None}
		while "progress" in answer:
			answer = json.loads(self.answers.readline())
		if not answer["ok"]:
			raise Failed(f"{request}: {answer['error']['message']}")
		return time.monotonic() - began
