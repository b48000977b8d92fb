from tests.gateway.rig import Rig, chat

def test_answer(rig: Rig) -> None:
    a = rig.ask(chat())
    print(a, rig.events())
    assert a.status == 200
    a = rig.ask(chat(stream=True))
    print(a.body.decode())
    a = rig.ask(chat(), token=None)
    assert a.status == 401
    print(a, rig.lines())
