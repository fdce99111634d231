"""The Models tab: what is asked of one version is never done to another."""

import gradio as gr

from kdloop.settings import Settings
from kdloop.ui import models


def test_choosing_another_version_takes_back_the_question_whether_to_serve_it(db):
    with gr.Blocks() as page:
        models.build(Settings(home=db.parent), None, gr.State({}))
    (version,) = (b for b in page.blocks.values() if b.elem_id == "version")
    (sure,) = (b for b in page.blocks.values() if isinstance(b, gr.Button) and "Yes, it answers" in str(b.value))
    armed = [f for f in page.fns.values() if f.outputs == [sure] and f.fn().visible]
    disarmed = [f for f in page.fns.values() if (version._id, "change") in f.targets and f.outputs == [sure]]
    assert len(armed) == 1 and [f.fn().visible for f in disarmed] == [False]
