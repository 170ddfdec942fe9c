"""`trio-chat account`, beside a running server."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from tests.wire import WireClosed, connect, log_in, register
from trio_chat import Server, Settings
from trio_chat.__main__ import main
from trio_chat.wire.messages import Kind


async def account(settings: Settings, *words: str) -> int:
    return await trio.to_thread.run_sync(partial(main, ["account", *words, "--database", settings.database]))


@pytest.mark.settings(sweep=0.05)
async def test_disabling_and_enabling(
    server: Server, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.addresses[0]
    await register(address, "alice")
    async with log_in(address, "alice") as alice:
        assert await account(settings, "disable", "alice") == 0
        assert capsys.readouterr().out == "alice, id 1, is disabled\n"
        assert (await alice.receive(within=10))["error"] == "login_revoked"
        with pytest.raises(WireClosed):
            await alice.receive()
    async with connect(address) as wire:
        assert (await wire.call(Kind.LOGIN, name="alice", password="secret"))["error"] == "forbidden"
        assert await account(settings, "enable", "alice") == 0
        await wire.ok(Kind.LOGIN, name="alice", password="secret")
    assert await account(settings, "disable", "nobody") == 2
    assert "no user of the name 'nobody'" in capsys.readouterr().err
