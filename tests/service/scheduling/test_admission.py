from steersman_service.scheduling.admission import CallLimit


def test_one_tenant_may_take_all_and_another_still_gets_its_share() -> None:
    limit = CallLimit(8)
    assert [limit.enter("a") for _ in range(9)] == [True] * 8 + [False]
    assert [limit.enter("b") for _ in range(5)] == [True] * 4 + [False]
    assert limit.enter("c")
    assert limit.running == 13
    # Of three tenants each has a share of two and a bit.
    assert [limit.enter(tenant) for tenant in "abcc"] == [False, False, True, False]


def test_made_up_tenants_do_not_pass_twice_the_limit() -> None:
    limit = CallLimit(8)
    assert sum(limit.enter(f"t{number}") for number in range(100)) == 16
    for number in range(16):
        limit.leave(f"t{number}")
    assert limit.running == 0
    assert [limit.enter("a") for _ in range(9)] == [True] * 8 + [False]
