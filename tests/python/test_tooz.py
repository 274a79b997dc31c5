"""OpenStack's `tooz`: its drivers' locks over v2 and v3, and its groups over v3, against etcd (3.4 for v2) and Quorate."""

import pytest
import tooz
from tooz import coordination

from harness import CALL_LIMIT, Pair, eventually

DRIVERS = ["etcd", "etcd3+http"]


@pytest.fixture(params=DRIVERS)
def store(request):
    """The driver's name, and a pair of fresh servers that have its interface."""
    pair = Pair(v2=request.param == "etcd")
    yield request.param, pair
    pair.remove()


def coordinator(side, driver, name, seconds=60):
    """A coordinator that is heard of for so many seconds after its last heartbeat."""
    times = f"timeout={CALL_LIMIT}&lock_timeout={seconds}&membership_timeout={seconds}"
    made = coordination.get_coordinator(f"{driver}://{side.server.endpoint}?{times}", name.encode())
    made.client.session.trust_env = False
    made.start()
    return made


def asked(side, what, call):
    """Records an answer, or how the call failed; what is under way is waited for."""
    try:
        answer = call()
        answer = answer.get(CALL_LIMIT) if isinstance(answer, coordination.CoordAsyncResult) else answer
    except (coordination.ToozError, tooz.NotImplemented) as error:
        return side.note(what, (type(error).__name__, str(error)))
    return side.note(what, answer)


def test_locks(store):
    driver, pair = store

    def case(side):
        first, second = (coordinator(side, driver, name) for name in ["first", "second"])
        mine, theirs = first.get_lock(b"work"), second.get_lock(b"work")
        asked(side, "acquire", mine.acquire)
        asked(side, "acquire what is held", lambda: theirs.acquire(blocking=False))
        asked(side, "shared", lambda: theirs.acquire(shared=True))
        side.note("acquired", (mine.acquired, theirs.acquired))
        asked(side, "kept", mine.heartbeat)
        asked(side, "kept by another", theirs.heartbeat)
        asked(side, "release", mine.release)
        asked(side, "waited for", theirs.acquire)
        side.note("acquired by the second", (mine.acquired, theirs.acquired))
        asked(side, "released by another", mine.release)
        asked(side, "broken", mine.break_)
        asked(side, "after that", lambda: mine.acquire(blocking=False))
        with_statement = first.get_lock(b"other")
        with with_statement:
            side.note("in a statement", with_statement.acquired)
            asked(side, "not by another", lambda: second.get_lock(b"other").acquire(blocking=False))
        side.note("after it", with_statement.acquired)

    pair.both(case)


def test_locks_end_with_silence(store):
    driver, pair = store

    def case(side):
        silent, heard, third = (coordinator(side, driver, name, 4) for name in ["silent", "heard", "third"])
        asked(side, "acquire", silent.get_lock(b"silent").acquire)
        asked(side, "acquire", heard.get_lock(b"heard").acquire)

        def passed_on():
            heard.heartbeat()
            return third.get_lock(b"silent").acquire(blocking=False)

        eventually("the end of the silent one's lock", passed_on)
        asked(side, "the other's", lambda: third.get_lock(b"heard").acquire(blocking=False))

    pair.both(case)


@pytest.mark.parametrize("store", DRIVERS[1:], indirect=True)
def test_groups(store):
    driver, pair = store

    def case(side):
        first, second = (coordinator(side, driver, name) for name in ["first", "second"])
        seen = []
        asked(side, "join nothing", lambda: first.join_group(b"group"))
        asked(side, "create", lambda: first.create_group(b"group"))
        asked(side, "create again", lambda: second.create_group(b"group"))
        first.watch_join_group(b"group", lambda event: seen.append(("joined", event.group_id, event.member_id)))
        first.watch_leave_group(b"group", lambda event: seen.append(("left", event.group_id, event.member_id)))
        asked(side, "join", lambda: first.join_group(b"group", b"a leader"))
        asked(side, "join again", lambda: first.join_group(b"group"))
        asked(side, "join as another", lambda: second.join_group(b"group", {"cores": 2}))
        asked(side, "groups", lambda: sorted(first.get_groups().get(CALL_LIMIT)))
        asked(side, "members", lambda: sorted(first.get_members(b"group").get(CALL_LIMIT)))
        asked(side, "capabilities", lambda: first.get_member_capabilities(b"group", b"second"))
        asked(side, "update", lambda: second.update_capabilities(b"group", {"cores": 4}))
        asked(side, "updated", lambda: first.get_member_capabilities(b"group", b"second"))
        asked(side, "of nobody", lambda: first.get_member_capabilities(b"group", b"nobody"))
        first.run_watchers()
        silent = coordinator(side, driver, "silent", 4)
        asked(side, "the silent one", lambda: silent.join_group(b"group"))
        first.run_watchers()

        def alone():
            first.heartbeat()
            second.heartbeat()
            return b"silent" not in first.get_members(b"group").get(CALL_LIMIT)

        eventually("the end of the silent member", alone)
        asked(side, "leave", lambda: second.leave_group(b"group"))
        asked(side, "leave again", lambda: second.leave_group(b"group"))
        first.run_watchers()
        side.note("watchers", [sorted(seen[:2]), seen[2:3], sorted(seen[3:])])
        asked(side, "a leader's election", lambda: first.watch_elected_as_leader(b"group", seen.append))
        asked(side, "delete with members", lambda: first.delete_group(b"group"))
        asked(side, "leave as the last", lambda: first.leave_group(b"group"))
        asked(side, "delete", lambda: first.delete_group(b"group"))
        asked(side, "delete again", lambda: first.delete_group(b"group"))
        asked(side, "members of nothing", lambda: second.get_members(b"group"))

    pair.both(case)
