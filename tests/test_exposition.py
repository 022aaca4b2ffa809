"""One process's endpoint: a taken port, counters that follow totals, the stay for a last scrape, the last push."""

import re

import pytest
from servers import free_port, get, pushgateway

from gan_distributed.exposition import Exposition, push, resident_bytes


def exposed(port: int | None = 0) -> Exposition:
    found = Exposition({"run": "r"}, "127.0.0.1", port)
    found.counter("gan_things", "Things", source=("bucket", "cache"))
    found.gauge("gan_level", "A level")
    return found


def text_of(exposition: Exposition) -> str:
    return get(f"http://127.0.0.1:{exposition.port}/metrics")


def test_a_taken_port_falls_back_to_a_free_one(caplog):
    port = free_port()
    first, second = exposed(port), exposed(port)
    assert first.port == port
    assert second.port not in (None, port)
    assert f"nothing can be served on 127.0.0.1:{port}" in caplog.text
    assert f"they are on port {second.port} instead of {port}" in caplog.text
    assert "gan_things_total" in text_of(second)
    first.close()
    second.close()
    again = exposed(port)
    assert again.port == port
    again.close()


def test_an_address_that_is_not_this_machines_stops_nothing(caplog):
    exposition = Exposition({"run": "r"}, "192.0.2.1", 9400)
    assert exposition.port is None
    assert "nothing can be served on 192.0.2.1:9400" in caplog.text
    exposition.close()


def test_counters_are_there_from_the_start_and_gauges_when_they_are_set():
    exposition = exposed()
    assert 'gan_things_total{run="r",source="cache"} 0.0' in text_of(exposition)
    assert "gan_level{" not in text_of(exposition)
    exposition.set("gan_level", 3)
    assert 'gan_level{run="r"} 3.0' in text_of(exposition)
    assert "_created" not in text_of(exposition)
    exposition.close()


def test_counters_follow_totals_over_several_sources():
    exposition = exposed()
    for total in (100, 250, 30):
        exposition.raise_to("gan_things", total, source="bucket")
    assert 'gan_things_total{run="r",source="bucket"} 280.0' in text_of(exposition)
    exposition.close()


def test_it_lingers_until_nobody_waits():
    exposition, asked = exposed(), []

    def is_over() -> bool:
        asked.append(text_of(exposition))
        return len(asked) == 3

    exposition.linger(600, is_over)
    assert len(asked) == 3
    exposition.close()
    # Nobody can scrape it: there is nothing to wait for.
    exposed(None).linger(600, lambda: False)


def test_what_is_final_is_pushed_in_the_place_of_what_was(caplog):

    def fill(value: float):
        def filled(exposition: Exposition) -> None:
            exposition.gauge("gan_final_state", "How it ended", "state")
            exposition.set("gan_final_state", value, state="done")

        return filled

    with pushgateway() as url:
        for value in (0, 1):
            push(url, "gan_train", {"run": "r"}, fill(value))
        found = re.findall(r"^gan_final_state\{(.*)\} (.*)$", get(f"{url}/metrics"), re.MULTILINE)
    assert found == [('instance="",job="gan_train",run="r",state="done"', "1")]
    assert not caplog.records
    push(url, "gan_train", {"run": "r"}, fill(1))
    assert f"the Pushgateway {url} did not take the end of the job" in caplog.text


def test_private_memory_is_that_without_mapped_files(tmp_path):
    import mmap

    size = 64 << 20
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as mapped:
            before = resident_bytes()
            for place in range(0, size, mmap.PAGESIZE):
                mapped[place] = 1
            after = resident_bytes()
    assert after[0] - before[0] > size * 0.9
    assert after[1] - before[1] < size * 0.1
    assert 0 < after[1] < after[0]


@pytest.mark.parametrize("labels", [{"source": "elsewhere", "node": "a"}, {}])
def test_a_label_that_was_not_declared_is_a_mistake(labels):
    exposition = exposed(None)
    with pytest.raises(ValueError, match="label"):
        exposition.add("gan_things", 1, **labels)


def test_only_the_configured_address_answers():
    """All of 127.0.0.0/8 is this machine's."""
    near, everywhere = Exposition({"run": "r"}, "127.0.0.1", 0), Exposition({"run": "r"}, "0.0.0.0", 0)
    get(f"http://127.0.0.2:{everywhere.port}/metrics")
    with pytest.raises(OSError, match="refused"):
        get(f"http://127.0.0.2:{near.port}/metrics")
    near.close()
    everywhere.close()
