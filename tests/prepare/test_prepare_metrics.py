"""What `prepare` tells Prometheus: how far it is, and at its end a Pushgateway."""

import re

import pytest
from preparing import picture, run, write_images
from servers import free_port, get, pushgateway

from gan_distributed.data.preparation.metrics import PreparationMetrics
from gan_distributed.data.preparation.progress import Advance
from gan_distributed.errors import InputError


@pytest.fixture
def photos(tmp_path):
    images = {f"{index}.png": index for index in range(9)} | {"broken.png": None}
    return write_images(tmp_path / "photos", images)


def values(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}\{{.*\}} (.*)$", text, re.MULTILINE)


def test_the_endpoint_tells_images_bytes_and_quarantine(tmp_path, photos, monkeypatch):
    port, seen = free_port(), []
    finish = PreparationMetrics.finish

    def look(self, linger_s):
        seen.append(get(f"http://127.0.0.1:{port}/metrics"))
        finish(self, linger_s)

    monkeypatch.setattr(PreparationMetrics, "finish", look)
    run(photos, tmp_path / "set", metrics_port=port)
    (text,) = seen
    assert values(text, "gan_prepare_images_total") == ["10.0"]
    assert values(text, "gan_prepare_expected_images") == ["10.0"]
    assert values(text, "gan_prepare_quarantined_images_total") == ["1.0"]
    channels = 3 if picture(0).mode == "RGB" else 1
    assert values(text, "gan_prepare_bytes_total") == [f"{9 * 16 * 16 * channels:.1f}"]
    assert float(values(text, "gan_prepare_images_per_second")[0]) > 0
    assert set(re.findall(r'(\w+)="', text)) == {"run"}


def test_its_end_is_pushed(tmp_path, photos):
    with pushgateway() as url:
        run(photos, tmp_path / "set", pushgateway=url)
        done = get(f"{url}/metrics")
        failed = PreparationMetrics("other", None, url)
        failed.advance(Advance(4, 1, 0), 2.0)
        failed.close()
        both = get(f"{url}/metrics")
    assert values(done, "gan_prepare_final_state") == ["1"]
    assert values(done, "gan_prepare_final_quarantined_images") == ["1"]
    assert sorted(values(both, "gan_prepare_final_state")) == ["0", "1"]


def test_a_pushgateway_must_be_a_url(tmp_path, photos):
    with pytest.raises(InputError, match="--pushgateway host:9091: give a URL"):
        run(photos, tmp_path / "set", pushgateway="host:9091")
